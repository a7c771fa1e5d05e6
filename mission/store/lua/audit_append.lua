-- Append to the audit, if its newest element is still the element that the caller built upon.
-- KEYS: the list. ARGV: that element (empty if there is none), the new one. Returns 1, or 0 if another element is the newest.
if (redis.call('LINDEX', KEYS[1], -1) or '') ~= ARGV[1] then return 0 end
redis.call('RPUSH', KEYS[1], ARGV[2])
return 1
