-- mirror: put one account's configuration in place, unless a newer one is there.
-- ARGV: account, version, sealed configuration, number of index entries, then each as 'kind name value'.
--   s <source id> <account>     t <keyed hash of a template's secret> <account>/<template>
--   k <hash of an API key> <account>         a <provider>/<agent id, quoted> <account>/<template>
-- Reply: 1 if it was put in place, 0 if this version or a newer one was there already.

local P = 'sw:config:'
local account, version = ARGV[1], tonumber(ARGV[2])
local current = tonumber(redis.call('HGET', P .. 'versions', account) or 0)
if current >= version and redis.call('HEXISTS', P .. 'accounts', account) == 1 then return 0 end

local function parts(entry) return string.match(entry, '^(%S) (%S+) (%S+)$') end

for _, entry in ipairs(redis.call('SMEMBERS', P .. 'index:' .. account)) do
  local kind, name, value = parts(entry)
  if kind == 's' then redis.call('HDEL', P .. 'sources', name) end
  if kind == 'k' then redis.call('HDEL', P .. 'keys', name) end
  if kind == 't' then redis.call('SREM', P .. 'secret:' .. name, value) end
  if kind == 'a' then redis.call('SREM', P .. 'agent:' .. name, value) end
end
redis.call('DEL', P .. 'index:' .. account)

for i = 5, 4 + tonumber(ARGV[4]) do
  local kind, name, value = parts(ARGV[i])
  if kind == 's' then redis.call('HSET', P .. 'sources', name, value) end
  if kind == 'k' then redis.call('HSET', P .. 'keys', name, value) end
  if kind == 't' then redis.call('SADD', P .. 'secret:' .. name, value) end
  if kind == 'a' then redis.call('SADD', P .. 'agent:' .. name, value) end
  redis.call('SADD', P .. 'index:' .. account, ARGV[i])
end
redis.call('HSET', P .. 'accounts', account, ARGV[3])
redis.call('HSET', P .. 'versions', account, version)
redis.call('INCR', P .. 'version')
return 1
