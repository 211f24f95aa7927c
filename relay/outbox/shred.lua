-- shred: delete the content of events now, and end the deliveries that waited for it.
-- ARGV: count, then for each event: id, and the outcome of each delivery that ends for it, without its endpoint
-- Reply: {now, {for each event: {content was here (1|0), deliveries ended, deliveries in flight} or 'error'}}
-- Units in flight end when their attempt does: the event's hash keeps the outcome for them as `w`; see settle.lua.
-- Only the lane relay is touched: the bill is due all the same, and facts hold nothing that was said.

local LANE = 'relay'
local at = 1
local function take()
  at = at + 1
  return ARGV[at]
end

redis.call('DEL', P .. 'nothing')  -- see claim.lua: the first write must free memory

local touched, dead = {}, 0

-- The units of an event that wait, in their lines or as suspects, leave them; the others are in flight.
local function end_waiting(id, event, fields, outcome)
  local ended, flying = 0, 0
  for i = 1, #fields, 2 do
    local field, attempts = fields[i], fields[i + 1]
    local key = string.match(field, '^n:relay:(.+)$')
    if key then
      local waited = redis.call('ZREM', P .. 'line:' .. LANE .. ':' .. key, id)
        + redis.call('ZREM', P .. 'suspects:' .. LANE, key .. ' ' .. id)
      if waited > 0 then
        redis.call('HDEL', event, field, unit_field('c', LANE, key))
        redis.call('XADD', P .. 'outcomes', '*', 'o', outcome, 'n', attempts, 'k', key)
        touched[key] = true
        ended = ended + 1
      else
        flying = flying + 1
      end
    elseif string.match(field, '^x:relay:') then
      redis.call('HDEL', event, field)
    end
  end
  return ended, flying
end

local function shred(id, outcome)
  local event = P .. 'event:' .. id
  local had = redis.call('DEL', P .. 'sealed:' .. id)
  local fields = redis.pcall('HGETALL', event)
  if fields.err or #fields == 0 then return { had, 0, 0 } end  -- nothing is left to do, or to know
  local values = {}
  for i = 1, #fields, 2 do values[fields[i]] = fields[i + 1] end
  if tonumber(values['z'] or 0) > 0 then redis.call('DECRBY', P .. 'bytes:' .. values['a'], values['z']) end
  local ended, flying = end_waiting(id, event, fields, outcome)
  dead = dead + ended
  if flying == 0 then redis.call('ZREM', P .. 'ends', id) end
  if redis.call('HINCRBY', event, 'o', 0 - ended) == 0 then  -- not -ended: Redis does not read "-0"
    redis.call('DEL', event, P .. 'facts:' .. id)
    redis.call('SET', event, 1, 'PX', SPENT_TTL)
  else
    redis.call('HINCRBY', event, 'r', 0 - ended)
    redis.call('HDEL', event, 'd', 'l')
    redis.call('HSET', event, 'z', 0)
    if flying > 0 then redis.call('HSET', event, 'w', outcome) end
  end
  return { had, ended, flying }
end

local replies = {}
for _ = 1, tonumber(ARGV[1]) do
  local id, outcome = take(), take()
  local ok, reply = pcall(shred, id, outcome)
  replies[#replies + 1] = ok and reply or 'error'
end
for key in pairs(touched) do index(LANE, key) end
if dead > 0 then redis.call('HINCRBY', P .. 'totals:' .. LANE, 'dead', dead) end
return { NOW, replies }
