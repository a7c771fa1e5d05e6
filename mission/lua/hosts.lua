-- What is known of all hosts in trouble; what was not heard of for an hour is forgotten.
-- ARGV: prefix, schema. Returns {now, host, 'failures until', ...}.
local found = redis.call('HGETALL', key('hosts'))
local answer = {now}
for i = 1, #found, 2 do
  local paused_until = tonumber(string.match(found[i + 1], ' (%d+)$'))
  if paused_until > 0 and paused_until + 3600000 < now then
    redis.call('HDEL', key('hosts'), found[i])
  else
    answer[#answer + 1] = found[i]
    answer[#answer + 1] = found[i + 1]
  end
end
return answer
