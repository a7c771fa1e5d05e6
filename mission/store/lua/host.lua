-- The breaker of one host, shared by all workers. It lives in one hash: field host -> 'failures until failed_at'.
-- ARGV: prefix, schema, verb, host, failures that open it, pause in ms.
-- `failed`, `reached`: report a fetch; the time until which the host is paused in ms, 0 if it is not.
-- `probe`: once the pause is over, one worker at a time may try; 1 if it is this one.
local verb, host, threshold, pause = ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
-- Strangers may name hosts without end (under a wildcard, say), and every worker reads them all each second.
local most_hosts = 1024
local failures, paused_until = 0, 0
local known = redis.call('HGET', key('hosts'), host)
if known then
  local a, b = string.match(known, '^(%d+) (%d+) %d+$')
  failures, paused_until = tonumber(a), tonumber(b)
end

if verb == 'reached' then
  redis.call('HDEL', key('hosts'), host)
  redis.call('DEL', key('probe:' .. host))
  return 0
end

if verb == 'failed' then
  if not known and redis.call('HLEN', key('hosts')) >= most_hosts then
    -- Any one gives way: where missions still go it is soon known again.
    redis.call('HDEL', key('hosts'), redis.call('HRANDFIELD', key('hosts')))
  end
  failures = failures + 1
  if failures >= threshold then
    paused_until = now + pause
    redis.call('DEL', key('probe:' .. host))
  end
  redis.call('HSET', key('hosts'), host, string.format('%d %d %d', failures, paused_until, now))
  return paused_until
end

if now < paused_until then return 0 end
return redis.call('SET', key('probe:' .. host), '1', 'NX', 'PX', pause) and 1 or 0
