-- accept: commit a group of verified events, each once.
-- ARGV: count, then for each event:
--   id, account, facts, sealed, retention ms, window ms, quota bytes, configuration version (0: not checked),
--   the id that the same would have if it had come another way (empty: none), number of units, then lane and key of each.
-- Reply: {now, config version, {lanes to ring}, {verdicts}, {accounts that have just filled half of their quota}}
--   with verdict new | repeat | quota | stale | error.
--   stale: the account's configuration has changed since the event was verified and routed by it.

local ARGS, at = ARGV, 1
local READS_CONTENT = { relay = true, recordings = true }
local UNPACKED = 2000  -- Lua unpacks fewer than 8,000 values at once
local function take()
  at = at + 1
  return ARGS[at]
end

local ringing, accepted, half_full = {}, {}, {}

local function accept(e)
  local event = P .. 'event:' .. e.id
  if redis.call('EXISTS', event) == 1 then return 'repeat' end
  if e.twin ~= '' and redis.call('EXISTS', P .. 'event:' .. e.twin) == 1 then return 'repeat' end
  if e.version ~= '0' then
    local newest = redis.call('HGET', P .. 'config:versions', e.account)
    if newest and newest ~= e.version then return 'stale' end
  end
  -- Content that nobody waits for would never be shredded; it is not kept.
  local size = e.is_read and #e.sealed or 0
  if size > 0 then
    local held = tonumber(redis.call('GET', P .. 'bytes:' .. e.account) or 0)
    if held + size > e.quota then return 'quota' end
    redis.call('SET', P .. 'sealed:' .. e.id, e.sealed, 'PX', e.retention)
    redis.call('INCRBY', P .. 'bytes:' .. e.account, size)
    if held * 2 < e.quota and (held + size) * 2 >= e.quota then half_full[#half_full + 1] = e.account end
  end
  local fields = { 'a', e.account, 't', ms(NOW), 'e', ms(NOW + e.window), 'z', size, 'o', #e.units, 'r', #e.endpoints }
  for _, unit in ipairs(e.units) do
    local lane, key = unit[1], unit[2]
    redis.call('ZADD', P .. 'line:' .. lane .. ':' .. key, 'NX', ms(NOW), e.id)
    redis.call('ZADD', P .. 'due:' .. lane, 'LT', ms(NOW), key)
    ringing[lane] = true
    accepted[lane] = (accepted[lane] or 0) + 1
    fields[#fields + 1] = unit_field('n', lane, key)
    fields[#fields + 1] = 0
  end
  if #e.endpoints > 0 then redis.call('ZADD', P .. 'ends', ms(NOW + e.window), e.id) end
  redis.call('XADD', P .. 'outcomes', '*', 'i', e.id, 'a', e.account, 'f', e.facts,
    'e', table.concat(e.endpoints, ','), 'z', size)
  if #e.units == 0 then
    redis.call('SET', event, 1, 'PX', SPENT_TTL)
  else
    redis.call('SET', P .. 'facts:' .. e.id, e.facts)
    for first = 1, #fields, UNPACKED do
      redis.call('HSET', event, unpack(fields, first, math.min(first + UNPACKED - 1, #fields)))
    end
  end
  return 'new'
end

local verdicts = {}
for _ = 1, tonumber(ARGS[1]) do
  local e = { id = take(), account = take(), facts = take(), sealed = take(), retention = take(),
    window = tonumber(take()), quota = tonumber(take()), version = take(), twin = take(), units = {}, endpoints = {} }
  for _ = 1, tonumber(take()) do
    local lane, key = take(), take()
    e.units[#e.units + 1] = { lane, key }
    if lane == 'relay' then e.endpoints[#e.endpoints + 1] = key end
    e.is_read = e.is_read or READS_CONTENT[lane]
  end
  local ok, verdict = pcall(accept, e)
  verdicts[#verdicts + 1] = ok and verdict or 'error'
end

local rings = {}
for lane in pairs(ringing) do
  redis.call('HINCRBY', P .. 'totals:' .. lane, 'accepted', accepted[lane])
  if redis.call('SET', P .. 'ring:' .. lane, 1, 'NX', 'PX', 5000) then rings[#rings + 1] = lane end
end
return { NOW, redis.call('GET', P .. 'config:version') or '0', rings, verdicts, half_full }
