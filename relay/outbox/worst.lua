-- worst: the endpoints of lane relay that are furthest behind. Reads only.
-- ARGV: most endpoints. Reply: {now, endpoints that something waits for, endpoints looked at, then for each:
--   {endpoint, account, gate (closed|open|gone), waiting, in flight, ms late, open until ms, failures, cap}}

local DUE = P .. 'due:relay'
-- Of what is due and of what is due later, each: the script blocks Redis for everyone. An endpoint whose gate is open,
-- or that has as much in flight as it may, is due later, however long something has waited for it.
local LOOK_AT = 2000

local function line_of(key) return P .. 'line:relay:' .. key end
local function fly_of(key) return P .. 'fly:relay:' .. key end

-- A unit at its end has a due time in 1970; how late it is is not known.
local function late_ms(line)
  local first = redis.call('ZRANGEBYSCORE', line, '(' .. URGENT, ms(NOW), 'WITHSCORES', 'LIMIT', 0, 1)
  return first[2] and NOW - tonumber(first[2]) or 0
end

local function account_of(key)
  local id = redis.call('ZRANGE', line_of(key), 0, 0)[1] or redis.call('ZRANGE', fly_of(key), 0, 0)[1]
  local account = id and redis.pcall('HGET', P .. 'event:' .. id, 'a')
  return type(account) == 'string' and account or ''
end

local found = {}
for _, range in ipairs({ { '-inf', ms(NOW) }, { '(' .. ms(NOW), '+inf' } }) do
  for _, key in ipairs(redis.call('ZRANGEBYSCORE', DUE, range[1], range[2], 'LIMIT', 0, LOOK_AT)) do
    local line = line_of(key)
    found[#found + 1] = { key = key, late = late_ms(line), waiting = redis.call('ZCARD', line) }
  end
end
table.sort(found, function(a, b)
  if a.late ~= b.late then return a.late > b.late end
  if a.waiting ~= b.waiting then return a.waiting > b.waiting end
  return a.key < b.key
end)

local rows = {}
for place = 1, math.min(tonumber(ARGV[1]), #found) do
  local it = found[place]
  local gate = gate_of('relay', it.key)
  local fails = tonumber(redis.call('HGET', P .. 'gate:' .. it.key, 'fails') or 0)
  rows[place] = { it.key, account_of(it.key), gate.state == '' and 'closed' or gate.state, it.waiting,
    redis.call('ZCARD', fly_of(it.key)), it.late, gate.until_ms, fails, gate.cap }
end
return { NOW, redis.call('ZCARD', DUE), #found, rows }
