-- What `x`, the sorted set of retentions, says of a flow: enough to take it out of the index.
local function retained(listing, flow_id, workflow)
  return listing .. ':' .. flow_id .. ':' .. workflow
end

-- Takes a flow out of the index, and the workflow's name out of `names` when that was its last flow.
local function unlist(prefix, listing, workflow, flow_id)
  redis.call('ZREM', prefix .. 'i:' .. listing .. ':' .. workflow, flow_id)
  for _, other in ipairs({'active', 'completed', 'failed', 'cancelled'}) do
    if redis.call('EXISTS', prefix .. 'i:' .. other .. ':' .. workflow) == 1 then
      return
    end
  end
  redis.call('SREM', prefix .. 'names', workflow)
end

-- Removes all of a flow but its id, which is remembered for a while.
local function remove_flow(prefix, flow_id)
  redis.call('UNLINK', prefix .. 'f:' .. flow_id, prefix .. 'h:' .. flow_id, prefix .. 'k:' .. flow_id)
  redis.call('SET', prefix .. 'g:' .. flow_id, '', 'PX', @REMEMBERED_MS@)
end

-- Whether a flow of this id was removed a short while ago.
local function is_remembered(prefix, flow_id)
  return redis.call('EXISTS', prefix .. 'g:' .. flow_id) == 1
end
