-- reopen: forget a key's gate and look at its line again.
-- ARGV: lane, key.

redis.call('DEL', P .. 'gate:' .. ARGV[2])
index(ARGV[1], ARGV[2])
return 1
