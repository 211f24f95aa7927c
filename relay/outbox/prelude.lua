-- Shared by every script of the outbox; Python puts it in front of each.
--
-- Lua does not roll back. Hence: arguments are checked before the call, each event is guarded by pcall, and the key
-- that decides (the event's hash) is written last in accept. Keys are built from arguments: Redis Cluster is refused
-- at start. Times are Redis' own, in integer milliseconds, because the clocks of hosts disagree.

local P = 'sw:'
local URGENT = 1        -- a due time in 1970: this unit's last attempt, which no gate holds back
local SPENT_TTL = 86400000  -- a settled event is remembered for 24 h, so that a provider's repeat is known

-- The breaker. An endpoint begins with few requests in flight and earns more with every success (slow start), so that
-- many endpoints that hang at once cannot take every slot; failures halve it again.
local CAP_FIRST, CAP_MOST = 8, 64
local FAILURES_TO_OPEN = 10
local OPEN_FIRST, OPEN_MOST = 5000, 45000  -- so that one minute after it mends, a probe has found out

local clock = redis.call('TIME')
local NOW = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function ms(n) return string.format('%.0f', n) end
local function lowest(zset)
  local first = redis.call('ZRANGE', zset, 0, 0, 'WITHSCORES')
  return first[1] and tonumber(first[2])
end

-- The breaker of one endpoint: how many may be in flight now, and from when. Other lanes have no breaker. An endpoint
-- is on probation while it has earned nothing: it is new, or has failed lately.
local function gate_of(lane, key)
  if lane ~= 'relay' then return { cap = 1000, until_ms = 0, state = '' } end
  local g = redis.call('HMGET', P .. 'gate:' .. key, 'cap', 'until', 'state')
  local gate = { cap = tonumber(g[1] or CAP_FIRST), until_ms = tonumber(g[2] or 0), state = g[3] or '' }
  gate.is_on_probation = gate.cap <= CAP_FIRST
  if gate.state == 'open' then gate.cap = 1 end
  return gate
end

-- When a key next wants service: its first unit when the gate allows one more, or its first lease to run out.
local function index(lane, key, gate, served)
  local line, fly = P .. 'line:' .. lane .. ':' .. key, P .. 'fly:' .. lane .. ':' .. key
  gate = gate or gate_of(lane, key)
  local first, lease = lowest(line), lowest(fly)
  local flying = first and redis.call('ZCARD', fly)
  local at = nil
  if first and first <= URGENT and gate.state == 'open' and flying < CAP_FIRST then
    at = NOW
  elseif first and flying < gate.cap then
    at = math.max(first, gate.until_ms)
  end
  if lease and (not at or lease < at) then at = lease end
  local due = P .. 'due:' .. lane
  if not at then
    redis.call('ZREM', due, key)
  elseif at > NOW or served then
    -- A key that was served just now goes behind those that wait, however old its backlog.
    redis.call('ZADD', due, ms(math.max(at, NOW)), key)
  else
    -- And any other goes behind them too, unless it waits already: then it keeps its place.
    redis.call('ZADD', due, 'LT', ms(NOW), key)
  end
end

-- What waited becomes due at once; the cap paces it.
local function release_all(lane, key)
  local line = P .. 'line:' .. lane .. ':' .. key
  while true do
    local waiting = redis.call('ZRANGEBYSCORE', line, '(' .. ms(NOW), '+inf', 'LIMIT', 0, 1000)
    if #waiting == 0 then return end
    local pairs_ = {}
    for _, id in ipairs(waiting) do
      pairs_[#pairs_ + 1] = ms(NOW)
      pairs_[#pairs_ + 1] = id
    end
    redis.call('ZADD', line, unpack(pairs_))
  end
end

local function unit_field(letter, lane, key) return letter .. ':' .. lane .. ':' .. key end
