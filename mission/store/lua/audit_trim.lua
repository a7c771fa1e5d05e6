-- Remove the audit's oldest elements, and append the entry that records it.
-- KEYS: the list. ARGV: its newest element, the new one, how many to remove, the last of them.
-- Returns 1, or 0 if one of the two has changed. The cut comes first: without the right to it, the function fails there.
if redis.call('LINDEX', KEYS[1], -1) ~= ARGV[1] then return 0 end
if redis.call('LINDEX', KEYS[1], ARGV[3] - 1) ~= ARGV[4] then return 0 end
redis.call('LTRIM', KEYS[1], ARGV[3], -1)
redis.call('RPUSH', KEYS[1], ARGV[2])
return 1
