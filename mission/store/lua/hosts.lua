-- List all failing hosts. Forget a host without failures for an hour, and soon one that was reached.
-- Returns {now, host, the end of its pause in ms or 0, ...}.
local found = redis.call('HGETALL', HOSTS)
local answer = {now}
for i = 1, #found, 2 do
  local host, breaker = found[i], breaker_in(found[i + 1])
  if not breaker or breaker.failed_at + 3600000 < now
    or breaker.failures == 0 and breaker.reached_at + TRUSTED_FOR < now then
    redis.call('HDEL', HOSTS, host)
  else
    if breaker.ran_back then
      keep_breaker(host, breaker)
      redis.call('ZADD', DUE_HOSTS, 'XX', now, host)
    end
    if breaker.failures > 0 then
      answer[#answer + 1] = host
      answer[#answer + 1] = string.format('%.0f', breaker.paused_until)
    end
  end
end
return answer
