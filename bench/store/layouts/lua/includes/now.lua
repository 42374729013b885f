-- The store's clock in milliseconds: rounded down, and rounded up. Timers count from the second.
local function now_ms()
  local time = redis.call('TIME')
  local ms = time[1] * 1000 + time[2] / 1000
  return math.floor(ms), math.ceil(ms)
end
