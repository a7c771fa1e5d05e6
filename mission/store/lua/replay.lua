-- Requeue a dead mission: zero attempts, a lifetime from now, due at once. A mission that is not dead stays as it is.
-- ARGV: id, lifetime in ms. Returns 'replayed', 'not_dead' or 'unknown'.
local id, lifetime = ARGV[1], whole(ARGV[2], 14)
if not lifetime then return redis.error_reply('ERR replay takes a lifetime in ms') end
if redis.call('TYPE', entry(id)).ok ~= 'hash' then return 'unknown' end
local found = redis.call('HMGET', entry(id), 'state', 'url')
if not found[1] then return 'unknown' end
if found[1] ~= 'dead' or not found[2] then return 'not_dead' end
remember(id, 'replayed')
redis.call('PERSIST', entry(id))
redis.call('HSET', entry(id), 'attempts', '0', 'expires_at', now + lifetime)
redis.call('HDEL', entry(id), 'finished_at', 'secrets', 'reason')
redis.call('ZREM', DEAD, id)
-- Its wait starts now: a mission that was dead for days must not look like a stuck queue.
redis.call('ZADD', OPEN, now, id)
redis.call('ZADD', EXPIRY, now + lifetime, id)
-- Through the due times, a reaper publishes it in its next round, and many of them at its own pace.
retry_at(id, now)
return 'replayed'
