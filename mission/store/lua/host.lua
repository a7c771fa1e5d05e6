-- The breaker of one host, shared by all workers. It lives in one hash: field host -> 'failures until failed_at'.
-- ARGV: verb, host, failures that open it, pause in ms.
-- `failed`, `reached`: report a fetch; the time until which the host is paused in ms, 0 if it is not.
-- `probe`: once the pause is over, one worker at a time may try; 1 if it is this one.
local verb, host, threshold, pause = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
-- Strangers may name hosts without end (under a wildcard, say), and every worker reads them all each second.
local most_hosts = 1024
local failures, paused_until = 0, 0
local known = redis.call('HGET', HOSTS, host)
if known then
  local a, b = string.match(known, '^(%d+) (%d+) %d+$')
  failures, paused_until = tonumber(a or 0), tonumber(b or 0)
end

if verb == 'reached' then
  redis.call('HDEL', HOSTS, host)
  redis.call('DEL', PROBE .. host)
  return 0
end

if verb == 'failed' then
  if not known and redis.call('HLEN', HOSTS) >= most_hosts then
    -- Any one gives way: where missions still go it is soon known again.
    redis.call('HDEL', HOSTS, redis.call('HRANDFIELD', HOSTS))
  end
  failures = failures + 1
  if failures >= threshold then
    paused_until = now + pause
    redis.call('DEL', PROBE .. host)
  end
  redis.call('HSET', HOSTS, host, string.format('%d %d %d', failures, paused_until, now))
  return paused_until
end

if now < paused_until then return 0 end
return redis.call('SET', PROBE .. host, '1', 'NX', 'PX', pause) and 1 or 0
