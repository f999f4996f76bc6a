-- Levels and leases of the relay (relay/store/token_bucket.py, relay/store/redis_limits.py).
--
-- take     KEYS: the lease of all instances, then the buckets.
--          ARGV: 'take', instance, lease_ms, then per bucket kind, limit, amount.
--          All or nothing. Returns the text "GRANTED KNOWN AFTER...": 1 or 0; whether this
--          instance is registered (0: Redis was emptied); what each bucket has, or would have,
--          afterwards. (A text, since a reader of lists takes as long for each number.)
-- correct  KEYS: one rate.     ARGV: 'correct', limit, by. Returns the level.
-- hold     KEYS: one lease.    ARGV: 'hold', instance, lease_ms, units. Sets what this instance
--          holds, to live for another lease. Returns what all hold.
--
-- A rate is the text "LEVEL_MILLI AT_US", a lease a hash of instance -> "UNITS UNTIL_US". Time is
-- Redis' own. Every number stays below 2^53: limits are at most 1e9.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local FULL_AFTER = 3660000000   -- 61 minutes
local STEP_BACK = 10000000
local MAX_DEBT_MINUTES = 60

local function put_level(key, level, at, limit)
  -- A bucket that is full again need not be there.
  local full_ms = math.ceil((limit * 1000 - level) * 60 / limit) + 20000
  redis.call('SET', key, string.format('%.0f %.0f', level, at), 'PX', full_ms)
end

local function level_of(key, limit)
  local value = redis.call('GET', key)
  local full = limit * 1000
  if not value then return full, now end
  local level, at = string.match(value, '^(-?%d+) (%d+)$')
  level, at = tonumber(level), tonumber(at)
  if level > full then level = full end
  local elapsed = now - at
  if elapsed <= 0 then
    if elapsed < -STEP_BACK then
      at = now
      put_level(key, level, at, limit)  -- also where nothing is granted
    end
    return level, at
  end
  if elapsed >= FULL_AFTER then return full, now end
  local part = (elapsed % 60000) * limit
  level = level + math.floor(elapsed / 60000) * limit + math.floor(part / 60000)
  if level >= full then return full, now end
  return level, now - math.floor((part % 60000) / limit)
end

-- What the others hold, and this instance; those that are over are taken out.
local function leases_of(key, instance, lease)
  local others, own = 0, 0
  local rows = redis.call('HGETALL', key)
  for i = 1, #rows, 2 do
    local units, till = string.match(rows[i + 1], '^(%d+) (%d+)$')
    units, till = tonumber(units), tonumber(till)
    if rows[i] == instance then
      own = units
    elseif till <= now then
      redis.call('HDEL', key, rows[i])
    else
      others = others + units
      if till > now + lease + STEP_BACK then  -- the clock was stepped back
        redis.call('HSET', key, rows[i], string.format('%.0f %.0f', units, now + lease))
      end
    end
  end
  return others, own
end

local function put_lease(key, instance, units, lease)
  if units > 0 then
    redis.call('HSET', key, instance, string.format('%.0f %.0f', units, now + lease))
    redis.call('PEXPIRE', key, math.ceil(lease / 1000))
  else
    redis.call('HDEL', key, instance)
  end
end

if ARGV[1] == 'take' then
  local instance, lease = ARGV[2], ARGV[3] * 1000
  local after, moments, owned = {}, {}, {}
  local granted = 1
  for i = 1, #KEYS - 1 do
    local key = KEYS[i + 1]
    local kind, limit, amount = ARGV[3 * i + 1], tonumber(ARGV[3 * i + 2]), tonumber(ARGV[3 * i + 3])
    if kind == 'lease' then
      local others, own = leases_of(key, instance, lease)
      owned[i] = own + amount
      after[i] = others + own + amount
      if after[i] > limit then granted = 0 end
    else
      local level, at = level_of(key, limit)
      moments[i] = at
      after[i] = level - amount * 1000
      if after[i] < 0 then granted = 0 end
    end
  end
  if granted == 1 then
    for i = 1, #KEYS - 1 do
      local key = KEYS[i + 1]
      if owned[i] then
        put_lease(key, instance, owned[i], lease)
      else
        put_level(key, after[i], moments[i], tonumber(ARGV[3 * i + 2]))
      end
    end
  end
  -- Lua writes whole numbers out below 1e14, and no level goes beyond 6.1e13.
  return granted .. ' ' .. redis.call('HEXISTS', KEYS[1], instance) .. ' ' .. table.concat(after, ' ')
end

if ARGV[1] == 'correct' then
  local limit, by = tonumber(ARGV[2]), tonumber(ARGV[3])
  local level, at = level_of(KEYS[1], limit)
  local full = limit * 1000
  level = math.min(math.max(level - by * 1000, -MAX_DEBT_MINUTES * full), full)
  put_level(KEYS[1], level, at, limit)
  return level
end

if ARGV[1] == 'hold' then
  local instance, lease, units = ARGV[2], ARGV[3] * 1000, tonumber(ARGV[4])
  local others = leases_of(KEYS[1], instance, lease)
  put_lease(KEYS[1], instance, units, lease)
  return others + units
end

return redis.error_reply('unknown command')
