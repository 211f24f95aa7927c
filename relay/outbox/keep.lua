-- keep: append the facts of events that were charged, so that a ledger can be made again from them.
-- ARGV: the batch, for how many ms such batches are kept. Reply: 1 if it was appended, 0 if Redis refused it.
-- Whole nodes of the stream are dropped by age, a bounded number at a time; upkeep drops the rest.

redis.call('XTRIM', P .. 'charged', 'MINID', '~', ms(NOW - ARGV[2]))  -- see claim.lua: the first write must free memory
local reply = redis.pcall('XADD', P .. 'charged', '*', 'b', ARGV[1])
return type(reply) == 'table' and reply.err and 0 or 1
