-- sweep: see to events whose end has come.
-- ARGV: most events. Reply: how many were seen.
-- A unit that still waits gets a last attempt, past every gate; retained content of ended deliveries is shredded.

local RECHECK = 30000  -- until the last attempt has been settled
redis.call('DEL', P .. 'nothing')  -- see claim.lua: the first write must free memory

local ids = redis.call('ZRANGEBYSCORE', P .. 'ends', '-inf', ms(NOW), 'LIMIT', 0, tonumber(ARGV[1]))
for _, id in ipairs(ids) do
  local event = P .. 'event:' .. id
  local fields = redis.pcall('HGETALL', event)
  local open, values = {}, {}
  if not fields.err then
    for i = 1, #fields, 2 do
      values[fields[i]] = fields[i + 1]
      open[#open + 1] = string.match(fields[i], '^n:relay:(.+)$')
    end
  end
  local again = nil
  for _, key in ipairs(open) do
    -- A replay has an end of its own; the other units share the event's.
    local unit_end = tonumber(values['u:relay:' .. key] or values['e'] or 0)
    if unit_end <= NOW then
      unit_end = NOW + RECHECK
      local line = P .. 'line:relay:' .. key
      local at = redis.call('ZSCORE', line, id)
      if at and tonumber(at) > URGENT then
        redis.call('ZADD', line, URGENT, id)
        index('relay', key)
      end
    end
    again = math.min(again or unit_end, unit_end)
  end
  if again then
    redis.call('ZADD', P .. 'ends', ms(again), id)
  else
    redis.call('ZREM', P .. 'ends', id)
    redis.call('DEL', P .. 'sealed:' .. id)
    if values['z'] and tonumber(values['z']) > 0 then
      redis.call('DECRBY', P .. 'bytes:' .. values['a'], values['z'])
      redis.call('HSET', event, 'z', 0)
    end
    if values['o'] == '0' then redis.call('DEL', event, P .. 'facts:' .. id) end
  end
end
return #ids
