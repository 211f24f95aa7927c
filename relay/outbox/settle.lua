-- settle: say what became of claimed units. The outcome is appended in the same step.
-- ARGV: lane, count, then for each unit:
--   key, id, token, verb, delay ms, attempted (1|0), gate verdict (ok|bad|gone|none), shred (1|0), outcome
-- Verbs: done   delivered (or charged): counts even with a stale token
--        retry  again after the delay; release  the same, without an attempt
--        dead   given up; its content is kept until its end for a replay, unless shred
--        lost   the sealed content is gone; the event is forgotten, so that the provider's resend works
-- Content that was shredded in flight leaves nothing to try again: retry and release end as dead then, and the outcome
-- that shred.lua left for that follows.
-- Reply: {now, {verdicts}} with verdict ok | stale | error.

local lane, at = ARGV[1], 2
local function take()
  at = at + 1
  return ARGV[at]
end

redis.call('DEL', P .. 'nothing')  -- see claim.lua: the first write must free memory

local touched, totals = {}, {}
local FINAL = { done = 'delivered', dead = 'dead', lost = 'lost' }

-- The ordinary end, in half the calls: the last open unit of an event of which nothing died and nothing was lost.
local function close_last(u, event)
  local e = redis.call('HMGET', event, 'o', 'd', 'l', 'a', 'z')
  if e[1] ~= '1' or e[2] or e[3] then return false end
  redis.call('DEL', P .. 'sealed:' .. u.id, P .. 'facts:' .. u.id)
  if lane == 'relay' then redis.call('ZREM', P .. 'ends', u.id) end
  if e[5] ~= '0' then redis.call('DECRBY', P .. 'bytes:' .. e[4], e[5]) end
  redis.call('SET', event, 1, 'PX', SPENT_TTL)
  return true
end

local function close(u, event)
  if u.verb == 'done' and close_last(u, event) then return end
  local n_field = unit_field('n', lane, u.key)
  if u.verb == 'lost' then redis.call('HSET', event, 'l', 1) end
  if u.verb == 'dead' and not u.shred and lane == 'relay' then
    local attempts = tonumber(redis.call('HGET', event, n_field) or 0) + u.attempted
    redis.call('HSET', event, unit_field('x', lane, u.key), attempts)
    redis.call('HINCRBY', event, 'd', 1)
  end
  redis.call('HDEL', event, n_field, unit_field('c', lane, u.key))
  local open = redis.call('HINCRBY', event, 'o', -1)
  local last_relay = lane == 'relay' and redis.call('HINCRBY', event, 'r', -1) == 0
  if open > 0 and not last_relay then return end

  local e = redis.call('HMGET', event, 'a', 'z', 'd', 'l')
  local size, kept, lost = tonumber(e[2]), e[3], e[4]
  local life = kept and not lost and redis.call('PTTL', P .. 'sealed:' .. u.id) or 0
  if life > 0 then
    -- The sweep shreds it then, gives the bytes back and forgets the event; so the event outlives its content.
    if last_relay then redis.call('ZADD', P .. 'ends', ms(NOW + life), u.id) end
    return
  end
  if last_relay or size > 0 then
    redis.call('DEL', P .. 'sealed:' .. u.id)
    redis.call('ZREM', P .. 'ends', u.id)
  end
  if size > 0 then redis.call('DECRBY', P .. 'bytes:' .. e[1], size) end
  if open > 0 then
    redis.call('HSET', event, 'z', 0)
    return
  end
  redis.call('DEL', event, P .. 'facts:' .. u.id)
  if not lost then redis.call('SET', event, 1, 'PX', SPENT_TTL) end
end

local in_good_order = {}  -- keys whose gate this call has found closed, with nothing to earn

local function judge(key, verdict)
  if verdict == 'none' or (verdict == 'ok' and in_good_order[key]) then return end
  in_good_order[key] = nil
  local gate = P .. 'gate:' .. key
  local g = redis.call('HMGET', gate, 'cap', 'state', 'fails', 'opens', 'until')
  local cap, state = tonumber(g[1] or CAP_FIRST), g[2]
  if verdict == 'ok' then
    in_good_order[key] = cap >= CAP_MOST or nil
    if cap < CAP_MOST then redis.call('HSET', gate, 'cap', math.min(CAP_MOST, cap * 2)) end
    if g[3] then redis.call('HDEL', gate, 'fails', 'opens') end
    if state == 'open' then
      redis.call('HDEL', gate, 'state', 'until')
      release_all(lane, key)
    end
  elseif verdict == 'gone' then
    redis.call('HSET', gate, 'state', 'gone')
    redis.call('HDEL', gate, 'until')
  elseif state == 'open' then
    -- Only a probe counts against an open gate, not what was in flight when it opened.
    if NOW >= tonumber(g[5] or 0) then
      local opens = tonumber(g[4] or 1) + 1
      local pause = math.min(OPEN_MOST, OPEN_FIRST * 2 ^ (opens - 1))
      redis.call('HSET', gate, 'opens', opens, 'until', ms(NOW + pause))
    end
  else
    local fails = tonumber(g[3] or 0) + 1
    redis.call('HSET', gate, 'fails', fails, 'cap', math.max(1, math.floor(cap / 2)))
    if fails >= FAILURES_TO_OPEN and state ~= 'gone' then
      redis.call('HSET', gate, 'state', 'open', 'opens', 1, 'until', ms(NOW + OPEN_FIRST))
    end
  end
end

local function settle(u)
  local line, fly = P .. 'line:' .. lane .. ':' .. u.key, P .. 'fly:' .. lane .. ':' .. u.key
  local event = P .. 'event:' .. u.id
  if u.verb == 'done' then
    local found = redis.call('ZREM', fly, u.id)
    if found == 0 then found = redis.call('ZREM', line, u.id) end
    if found == 0 then found = redis.call('ZREM', P .. 'suspects:' .. lane, u.key .. ' ' .. u.id) end
    if found == 0 then return 'stale' end
  else
    if redis.call('ZSCORE', fly, u.id) ~= u.token then return 'stale' end
    redis.call('ZREM', fly, u.id)
  end
  touched[u.key] = true
  local n_field = unit_field('n', lane, u.key)
  local e = not FINAL[u.verb] and lane == 'relay' and redis.call('HMGET', event, 'w', n_field) or {}
  if e[1] then u.verb, u.shred = 'dead', true end
  if FINAL[u.verb] then
    close(u, event)
    totals[FINAL[u.verb]] = (totals[FINAL[u.verb]] or 0) + 1
  else
    redis.call('ZADD', line, ms(NOW + u.delay), u.id)
    if u.attempted == 1 then redis.call('HINCRBY', event, n_field, 1) end
    redis.call('HDEL', event, unit_field('c', lane, u.key))
  end
  if u.outcome ~= '' then redis.call('XADD', P .. 'outcomes', '*', 'o', u.outcome) end
  if e[1] then redis.call('XADD', P .. 'outcomes', '*', 'o', e[1], 'n', e[2] + u.attempted, 'k', u.key) end
  judge(u.key, u.gate)
  return 'ok'
end

local verdicts = {}
for _ = 1, tonumber(ARGV[2]) do
  local u = { key = take(), id = take(), token = take(), verb = take(), delay = tonumber(take()),
    attempted = tonumber(take()), gate = take(), shred = take() == '1', outcome = take() }
  local ok, verdict = pcall(settle, u)
  verdicts[#verdicts + 1] = ok and verdict or 'error'
end
for key in pairs(touched) do index(lane, key) end
for name, count in pairs(totals) do redis.call('HINCRBY', P .. 'totals:' .. lane, name, count) end
return { NOW, verdicts }
