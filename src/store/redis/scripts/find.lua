-- Finds a resident by home and claim: the steps from the home, the value, and the highest version that replicas are known to have.
-- ARGV: home, claim.
local state = redis.call('HMGET', KEYS[1], 'depth', 'split', 'acked')
if not state[1] then
  return false
end
local high, low = struct.unpack('>I4I4', ARGV[1])
local bucket = bucket_of(high, tonumber(state[1]), tonumber(state[2]))
for steps = 0, 63 do
  local value = redis.call('HGET', bucket, id_at(high, low, steps))
  if not value then
    return false
  end
  if string.sub(value, 9, 24) == ARGV[2] then
    return { steps, value, tonumber(state[3]) or 0 }
  end
end
return redis.error_reply('CROWDED no free slot')
