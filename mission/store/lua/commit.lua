-- End a mission, if the caller holds its current token. A stale holder changes nothing.
-- ARGV: id, token, state, reason, secrets, ledger TTL in s.
-- Returns 'ok' (also when this very commit had been done before: its answer was lost) or 'stale'.
local id, token, state = ARGV[1], ARGV[2], ARGV[3]
local found = redis.call('HMGET', entry(id), 'state', 'token')
if found[2] ~= token or found[1] ~= 'running' and found[1] ~= state then return 'stale' end
if found[1] == 'running' then finish(id, state, ARGV[4], ARGV[5], ARGV[6]) end
return 'ok'
