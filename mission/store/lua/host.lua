-- The breaker of one host, shared by all workers.
-- ARGV: verb, host, pause in ms; for `failed` also how many failures open the breaker, and the submitter.
-- `failed`, `reached`: report a fetch. Returns the end of the host's pause in ms, 0 if it is not paused.
-- `probe`: after the pause, one worker at a time may try. Returns 1 if it is this one. `unprobed`: the probe was inconclusive.
local verb, host, pause, threshold = ARGV[1], ARGV[2], math.min(tonumber(ARGV[3]) or 0, 3600000), tonumber(ARGV[4])
-- A stranger may name any number of hosts (under a wildcard, for example), and every worker reads them all each second.
local most_hosts = 1024

-- Delete one of a few random hosts. Prefer a host of the same submitter, so that a submitter who names very many loses his own.
-- Then prefer a host that is not paused, then the oldest failure.
local function make_room(submitter)
  local victim, least
  for _, name in ipairs(redis.call('HRANDFIELD', HOSTS, 16)) do
    local breaker = breaker_of(name)
    local worth = 0
    if breaker then
      worth = breaker.failed_at + (breaker.submitter ~= submitter and 2e15 or 0) + (breaker.paused_until > now and 1e15 or 0)
    end
    if not least or worth < least then victim, least = name, worth end
  end
  redis.call('HDEL', HOSTS, victim)
end

local known = breaker_of(host)
if verb == 'failed' then
  local submitter = ARGV[5]
  if not known and redis.call('HLEN', HOSTS) >= most_hosts then make_room(submitter) end
  known = known or {failures = 0, paused_until = 0, reached_at = 0}
  if known.failures == 0 then known.submitter = submitter end
  if known.submitter ~= submitter then known.submitter = '*' end
  known.failures, known.failed_at, known.probed_at = known.failures + 1, now, 0
  local alone = known.submitter ~= '*' and known.reached_at + TRUSTED_FOR > now
  if known.failures >= threshold and not alone then
    known.paused_until = now + pause
    redis.call('ZADD', DUE_HOSTS, 'XX', known.paused_until, host)
  end
  keep_breaker(host, known)
  return alone and 0 or known.paused_until
end

if not known then return verb == 'probe' and 1 or 0 end

if verb == 'reached' then
  known.failures, known.paused_until, known.reached_at, known.probed_at, known.submitter = 0, 0, now, 0, '-'
  keep_breaker(host, known)
  redis.call('ZADD', DUE_HOSTS, 'XX', now, host)
  return 0
end

if verb == 'unprobed' then
  known.probed_at = 0
  keep_breaker(host, known)
  redis.call('ZADD', DUE_HOSTS, 'XX', now, host)
  return 0
end

if now < known.paused_until or now < known.probed_at + pause then return 0 end
known.probed_at = now
keep_breaker(host, known)
return 1
