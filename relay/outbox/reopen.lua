-- reopen: forget a key's gate and look at its line again.
-- ARGV: lane, key, release (1: what waits becomes due now, retries as well).

redis.call('DEL', P .. 'gate:' .. ARGV[2])
if ARGV[3] == '1' then release_all(ARGV[1], ARGV[2]) end
index(ARGV[1], ARGV[2])
return 1
