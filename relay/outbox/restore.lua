-- restore: put a delivery back whose content is gone, with content that was fetched again: a replay.
-- ARGV: id, account, key, attempts by the caller's records (-1: they do not say that it has ended), window ms,
--       retention ms, quota bytes, accepted ms, the facts that the caller found here, facts, sealed, outcome
-- Reply: {now, verdict} with verdict
--   restored; pending: it has not ended; kept: its content is here, so readmit it; closed: its endpoint answered 410;
--   unknown: the caller's records are absent or older than its last replay; quota; erased: its content must not come
--   back; changed: the facts are others than those that the caller found
-- Only the lane relay is touched: what waits for its bill goes on waiting, with the facts that it had.
-- `again:<id>:<key>` remembers the attempts that were made before, when the event itself is forgotten once more.

local LANE = 'relay'
local id, account, key = ARGV[1], ARGV[2], ARGV[3]
local u = { attempts = tonumber(ARGV[4]), window = tonumber(ARGV[5]), retention = ARGV[6], quota = tonumber(ARGV[7]),
  accepted = ARGV[8], seen = ARGV[9], facts = ARGV[10], sealed = ARGV[11], outcome = ARGV[12] }

local EVENT, FACTS, SEALED = P .. 'event:' .. id, P .. 'facts:' .. id, P .. 'sealed:' .. id
local BYTES, AGAIN = P .. 'bytes:' .. account, P .. 'again:' .. id .. ':' .. key
local n_field, x_field = unit_field('n', LANE, key), unit_field('x', LANE, key)
local u_field, p_field = unit_field('u', LANE, key), unit_field('p', LANE, key)

redis.call('DEL', P .. 'nothing')  -- see claim.lua: the first write must free memory

local f = redis.pcall('HMGET', EVENT, n_field, x_field, p_field, 'o', 'r', 'z', 'l', 'w')
if f.err then f = {} end  -- the string that stays once nothing is left to do
local e = { n = f[1], x = f[2], p = f[3], o = f[4], r = f[5], z = tonumber(f[6] or 0), l = f[7], w = f[8] }
local held = tonumber(redis.call('GET', BYTES) or 0) - e.z

local function verdict()
  if e.n then return 'pending' end
  if e.w then return 'erased' end
  if e.o and not e.l and redis.call('PTTL', SEALED) > 0 then return 'kept' end
  if redis.call('HGET', P .. 'gate:' .. key, 'state') == 'gone' then return 'closed' end
  local before = math.max(tonumber(e.p or -1), tonumber(redis.call('GET', AGAIN) or -1))
  if not e.x and u.attempts <= before then return 'unknown' end
  if held + #u.sealed > u.quota then return 'quota' end
  if (redis.call('GET', FACTS) or '') ~= u.seen then return 'changed' end
  return 'restored'
end

local said = verdict()
if said ~= 'restored' then return { NOW, said } end

local attempts = math.max(tonumber(e.x or 0), u.attempts)
local own_end = NOW + u.window
local next_end = tonumber(e.r or 0) > 0 and tonumber(redis.call('ZSCORE', P .. 'ends', id) or own_end) or own_end
redis.call('SET', SEALED, u.sealed, 'PX', u.retention)
redis.call('INCRBY', BYTES, #u.sealed - e.z)
redis.call('SET', FACTS, u.facts)
redis.call('SET', AGAIN, attempts, 'PX', SPENT_TTL)
redis.call('ZADD', P .. 'line:' .. LANE .. ':' .. key, ms(NOW), id)
redis.call('ZADD', P .. 'ends', ms(math.min(own_end, next_end)), id)
redis.call('XADD', P .. 'outcomes', '*', 'o', u.outcome, 'n', attempts)
if not e.o then
  redis.call('DEL', EVENT)
  redis.call('HSET', EVENT, 'a', account, 't', u.accepted, 'e', ms(own_end), 'o', 0, 'r', 0)
end
if e.x then
  redis.call('HDEL', EVENT, x_field)
  if redis.call('HINCRBY', EVENT, 'd', -1) == 0 then redis.call('HDEL', EVENT, 'd') end
end
redis.call('HDEL', EVENT, 'l')
redis.call('HSET', EVENT, n_field, attempts, u_field, ms(own_end), p_field, attempts, 'z', #u.sealed,
  'o', tonumber(e.o or 0) + 1, 'r', tonumber(e.r or 0) + 1)
index(LANE, key)
redis.call('HINCRBY', P .. 'totals:' .. LANE, 'accepted', 1)
return { NOW, said }
