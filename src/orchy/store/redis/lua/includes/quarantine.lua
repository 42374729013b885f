-- `u` is the sorted set of the flows in quarantine by the time of their creation, `a:<flow>` the set of the timers of
-- one that came due meanwhile.

-- Of timers that are due (member, due ms, ...) those of flows that are not in quarantine; the others are set aside.
local function set_aside(prefix, due)
  if #due == 0 or redis.call('EXISTS', prefix .. 'u') == 0 then
    return due
  end
  local kept = {}
  for i = 1, #due, 2 do
    local flow_id = string.match(due[i], '^[^:]*:[^:]*:[^:]*:(.*)$')
    if flow_id and redis.call('ZSCORE', prefix .. 'u', flow_id) then
      redis.call('SADD', prefix .. 'a:' .. flow_id, due[i])
      redis.call('ZREM', prefix .. 't', due[i])
    else
      kept[#kept + 1] = due[i]
      kept[#kept + 1] = due[i + 1]
    end
  end
  return kept
end

-- A flow is in quarantine no more.
local function unquarantine(prefix, flow_id)
  redis.call('HDEL', prefix .. 'f:' .. flow_id, 'u')
  redis.call('ZREM', prefix .. 'u', flow_id)
  redis.call('UNLINK', prefix .. 'a:' .. flow_id)
end
