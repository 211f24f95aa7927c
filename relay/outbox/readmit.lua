-- readmit: put ended deliveries back into their lines, due now: a replay.
-- ARGV: dry (1: only say what would happen), count, then for each unit:
--   key, id, attempts by the caller's records (-1: they do not say that it has ended), window ms, outcome
-- Reply: {now, {verdicts}} with verdict
--   readmitted; pending: it has not ended; gone: its content is no longer there; closed: its endpoint answered 410;
--   unknown: it is not known here how it ended, and the caller's records are absent or older than its last replay; error
-- A readmitted unit counts as accepted again. In the event's hash replays have two fields of their own, which stay:
--   u:<lane>:<key>  the replay's own end      p:<lane>:<key>  the attempts that were made before it

local LANE = 'relay'
local MARGIN = 3600000  -- content outlives the last attempt by this, or by half: `retry_window` in retry.py

local dry, at = ARGV[1] == '1', 2
local function take()
  at = at + 1
  return ARGV[at]
end

if not dry then redis.call('DEL', P .. 'nothing') end  -- see claim.lua: the first write must free memory

local touched, readmitted = {}, 0

local function verdict_of(u, e, life)
  if e.n then return 'pending' end
  if not e.o or e.l or life <= 0 then return 'gone' end
  if redis.call('HGET', P .. 'gate:' .. u.key, 'state') == 'gone' then return 'closed' end
  -- Records that know of no attempt since the last replay are behind: what they call ended may be delivered by now.
  if not e.x and u.attempts <= tonumber(e.p or -1) then return 'unknown' end
  return 'readmitted'
end

local function readmit(u)
  local event = P .. 'event:' .. u.id
  local n_field, x_field = unit_field('n', LANE, u.key), unit_field('x', LANE, u.key)
  local u_field, p_field = unit_field('u', LANE, u.key), unit_field('p', LANE, u.key)
  local f = redis.pcall('HMGET', event, n_field, x_field, p_field, 'd', 'l', 'o', 'r')
  if f.err then return 'gone' end  -- the string that stays once nothing is left to do
  local e = { n = f[1], x = f[2], p = f[3], d = f[4], l = f[5], o = f[6], r = f[7] }
  local life = redis.call('PTTL', P .. 'sealed:' .. u.id)
  local verdict = verdict_of(u, e, life)
  if verdict ~= 'readmitted' or dry then return verdict end

  local attempts = math.max(tonumber(e.x or 0), u.attempts)
  local own_end = NOW + math.min(u.window, math.max(life - MARGIN, math.floor(life / 2)))
  -- Until now the sweep was to come when the content ends, or for the first end of the units that are open.
  local next_end = tonumber(e.r) > 0 and tonumber(redis.call('ZSCORE', P .. 'ends', u.id) or own_end) or own_end
  redis.call('ZADD', P .. 'line:' .. LANE .. ':' .. u.key, ms(NOW), u.id)
  redis.call('ZADD', P .. 'ends', ms(math.min(own_end, next_end)), u.id)
  redis.call('XADD', P .. 'outcomes', '*', 'o', u.outcome, 'n', attempts)
  if e.x then
    redis.call('HDEL', event, x_field)
    -- Absent, not 0: settle asks only whether anything dead is kept.
    if redis.call('HINCRBY', event, 'd', -1) == 0 then redis.call('HDEL', event, 'd') end
  end
  redis.call('HSET', event, n_field, attempts, u_field, ms(own_end), p_field, attempts, 'o', e.o + 1, 'r', e.r + 1)
  touched[u.key] = true
  readmitted = readmitted + 1
  return verdict
end

local verdicts = {}
for _ = 1, tonumber(ARGV[2]) do
  local u = { key = take(), id = take(), attempts = tonumber(take()), window = tonumber(take()), outcome = take() }
  local ok, verdict = pcall(readmit, u)
  verdicts[#verdicts + 1] = ok and verdict or 'error'
end
for key in pairs(touched) do index(LANE, key) end
if readmitted > 0 then redis.call('HINCRBY', P .. 'totals:' .. LANE, 'accepted', readmitted) end
return { NOW, verdicts }
