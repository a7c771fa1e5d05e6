-- Remove a mission from the dead letters permanently: it stays dead, and its URL is deleted.
-- ARGV: id. Returns 'discarded', 'not_dead' or 'unknown'.
local id = ARGV[1]
if redis.call('TYPE', entry(id)).ok ~= 'hash' then return 'unknown' end
local found = redis.call('HMGET', entry(id), 'state', 'url')
if not found[1] then return 'unknown' end
if found[1] ~= 'dead' or not found[2] then return 'not_dead' end
redis.call('HDEL', entry(id), 'url')
redis.call('ZREM', DEAD, id)
return 'discarded'
