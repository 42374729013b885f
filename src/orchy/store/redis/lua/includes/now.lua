-- The store's clock in milliseconds, the only one that decides anything durable: rounded down, and rounded up. What
-- is due so long from now counts from the second, so that it is never early.
local function now_ms()
  local time = redis.call('TIME')
  local ms = time[1] * 1000 + time[2] / 1000
  return math.floor(ms), math.ceil(ms)
end
