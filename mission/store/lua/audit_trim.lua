-- Remove the audit's oldest elements, and append the entry that says so.
-- KEYS: the list. ARGV: its newest element, the new one, how many go, the last of them.
-- Returns 1, or 0 where one of the two is another by now. The cut comes first: who may not gets no further.
if redis.call('LINDEX', KEYS[1], -1) ~= ARGV[1] then return 0 end
if redis.call('LINDEX', KEYS[1], ARGV[3] - 1) ~= ARGV[4] then return 0 end
redis.call('LTRIM', KEYS[1], ARGV[3], -1)
redis.call('RPUSH', KEYS[1], ARGV[2])
return 1
