-- claim: lease waiting units, fairly over the lane's keys.
-- ARGV: lane, most units, most bytes, lease ms, alone (1: a suspect first, and nothing besides), content (1: sealed too),
--       most units and bytes of keys on probation, then the accounts of which nothing is wanted
-- Reply: {now, config version, more (1: there is more to claim), drain (1: a suspect waits to be claimed alone),
--         then for each unit: {key, id, token, attempts, claims, accepted ms, end ms, gate state, facts, sealed,
--         replay (1|0), on probation (1|0), account, erased (1|0)}}

local lane, left, bytes_left, lease = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local alone, with_content = ARGV[5] == '1', ARGV[6] == '1'
local DUE, SUSPECTS = P .. 'due:' .. lane, P .. 'suspects:' .. lane
local SUSPECT_CLAIMS = 2
-- Keys are looked at so many at a time. When the caller has no room for some of them, these must not stand in front of
-- others: they go so far behind that they do not fill every window. Where no other key waits they stay, for whoever has room.
local WINDOW = 64
local HELD_BACK = math.min(2000, math.max(50, redis.call('ZCARD', DUE) / 2))
local probation_left, probation_bytes_left = tonumber(ARGV[7]), tonumber(ARGV[8])
local full = {}
for place = 9, #ARGV do full[ARGV[place]] = true end

-- At maxmemory Redis refuses a script's first write only, so the first one frees (even if there is nothing to free).
redis.call('DEL', P .. 'nothing')

local claimed, gates, held_back = {}, {}, {}
local token = ms(NOW + lease)

-- A lease ran out: its process died or stood still. What was claimed twice without a settle may be the cause; such a
-- suspect leaves its line and is claimed alone, when nothing else is in flight that it could take down with it.
local function return_expired(key, line, fly)
  local expired = redis.call('ZRANGEBYSCORE', fly, '-inf', ms(NOW), 'LIMIT', 0, 256)
  for _, id in ipairs(expired) do
    redis.call('ZREM', fly, id)
    local claims = redis.pcall('HGET', P .. 'event:' .. id, unit_field('c', lane, key))
    if type(claims) == 'string' and tonumber(claims) >= SUSPECT_CLAIMS then
      redis.call('ZADD', SUSPECTS, ms(NOW), key .. ' ' .. id)
    else
      redis.call('ZADD', line, ms(NOW), id)
    end
  end
end

-- How many units of a key may be claimed now, and up to which due time. Past an open gate go last attempts only, as
-- many as an unknown endpoint gets.
local function allowance(gate, fly)
  local flying = redis.call('ZCARD', fly)
  if gate.state == 'open' and (gate.until_ms > NOW or flying >= gate.cap) then return CAP_FIRST - flying, URGENT end
  return gate.cap - flying, NOW
end

-- Lease one unit; false if it is what accept left behind when it failed half way, or if there is no room for it.
local function lease_unit(key, id, gate, is_alone)
  local n_field, c_field = unit_field('n', lane, key), unit_field('c', lane, key)
  local event = P .. 'event:' .. id
  local e = redis.pcall('HMGET', event, n_field, c_field, 't', 'e', 'z', unit_field('u', lane, key), 'a', 'w')
  local line = P .. 'line:' .. lane .. ':' .. key
  if e.err or not e[1] then
    redis.call('ZREM', line, id)
    return false
  end
  local size = tonumber(e[5])
  local has_no_room = gate.is_on_probation and (probation_left < 1 or probation_bytes_left <= 0)
  if not is_alone and (has_no_room or full[e[7]]) then
    held_back[key] = true
    return false
  end
  if with_content and #claimed > 0 and size > bytes_left then
    left = 0
    return false
  end
  redis.call('ZREM', line, id)
  redis.call('ZADD', P .. 'fly:' .. lane .. ':' .. key, token, id)
  redis.call('HINCRBY', event, c_field, 1)
  local facts = redis.call('GET', P .. 'facts:' .. id)
  local sealed = with_content and redis.call('GET', P .. 'sealed:' .. id) or false
  claimed[#claimed + 1] = { key, id, token, tonumber(e[1]), tonumber(e[2] or 0) + 1, e[3], e[6] or e[4],
    gate.state, facts, sealed, e[6] and 1 or 0, gate.is_on_probation and 1 or 0, e[7], e[8] and 1 or 0 }
  bytes_left = bytes_left - size
  left = left - 1
  if gate.is_on_probation then
    probation_left, probation_bytes_left = probation_left - 1, probation_bytes_left - size
  end
  return true
end

local function claim(key, most)
  local line, fly = P .. 'line:' .. lane .. ':' .. key, P .. 'fly:' .. lane .. ':' .. key
  local gate = gates[key]
  if not gate then
    return_expired(key, line, fly)
    gate = gate_of(lane, key)
    gates[key] = gate
  end
  local room, up_to = allowance(gate, fly)
  most = math.min(most, room, left)
  if most < 1 then return 0 end
  local got = 0
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', line, '-inf', ms(up_to), 'LIMIT', 0, most)) do
    if left < 1 or held_back[key] then break end
    if lease_unit(key, id, gate) then got = got + 1 end
  end
  return got
end

local function claim_suspect()
  local first = redis.call('ZRANGE', SUSPECTS, 0, 0)[1]
  if not first then return end
  redis.call('ZREM', SUSPECTS, first)
  local key, id = string.match(first, '^(%S+) (%S+)$')
  if lease_unit(key, id, gate_of(lane, key), true) then
    index(lane, key)
    left = 0
  end
end

if alone then claim_suspect() end
local keys = redis.call('ZRANGEBYSCORE', DUE, '-inf', ms(NOW), 'LIMIT', 0, WINDOW)
local turn = math.max(1, math.floor(left / math.max(1, #keys)))
local served = {}
for pass = 1, 2 do
  for _, key in ipairs(keys) do
    if left < 1 then break end
    if pass == 1 or served[key] == turn then
      served[key] = claim(key, pass == 1 and turn or left)
    end
  end
end
local kept = 0
for key in pairs(served) do
  index(lane, key, gates[key], true)
  if held_back[key] and #keys == WINDOW then
    redis.call('ZADD', DUE, 'XX', 'GT', ms(NOW + HELD_BACK), key)
  elseif held_back[key] and tonumber(redis.call('ZSCORE', DUE, key) or NOW + 1) <= NOW then
    kept = kept + 1
  end
end

-- What this caller has no room for is no reason for it to look again at once.
local more = redis.call('ZCOUNT', DUE, '-inf', ms(NOW)) > kept and 1 or 0
local drain = redis.call('EXISTS', SUSPECTS)
return { NOW, redis.call('GET', P .. 'config:version') or '0', more, drain, claimed }
