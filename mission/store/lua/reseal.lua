-- Put a re-sealed record in the place of the one that was read, if that still stands there. What is left of its time stays.
-- KEYS: the record's key. ARGV: the record that was read, the new one. Returns 1 if it was replaced, else 0.
if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
return 1
