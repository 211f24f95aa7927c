-- audit: where every accepted unit of a lane is, counted from the lines themselves.
-- ARGV: lane. Reply: {waiting, in flight, ms that the oldest due unit is late, accepted, delivered, dead, lost, keys}

local lane = ARGV[1]
local waiting, flying, oldest = 0, 0, NOW
local keys = redis.call('ZRANGE', P .. 'due:' .. lane, 0, -1)
for _, key in ipairs(keys) do
  local line = P .. 'line:' .. lane .. ':' .. key
  waiting = waiting + redis.call('ZCARD', line)
  flying = flying + redis.call('ZCARD', P .. 'fly:' .. lane .. ':' .. key)
  local first = lowest(line)
  if first and first > URGENT and first < oldest then oldest = first end
end
waiting = waiting + redis.call('ZCARD', P .. 'suspects:' .. lane)
local t = redis.call('HMGET', P .. 'totals:' .. lane, 'accepted', 'delivered', 'dead', 'lost')
return { waiting, flying, NOW - oldest, tonumber(t[1] or 0), tonumber(t[2] or 0), tonumber(t[3] or 0),
  tonumber(t[4] or 0), #keys }
