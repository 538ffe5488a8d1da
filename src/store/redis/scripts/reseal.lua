-- Puts records in the place of the same records, sealed anew. ARGV: mark of the key ring, format; then of each record id, the value that
-- was read, and the new one, whose word must be the same. Without any, it makes a write of its own, behind which replicas can be waited
-- for.
-- Returns a byte for each: '1' it was put, '0' another value lies there by now.
--
-- Everything is read before anything is written, as in take.lua.
local state = redis.call('HMGET', KEYS[1], 'ring', 'format', 'depth', 'split')
if not state[1] then
  return string.rep('0', (#ARGV - 2) / 3)
elseif state[1] ~= ARGV[1] then
  return redis.error_reply('FOREIGNRING made with another key ring')
elseif state[2] ~= ARGV[2] then
  return redis.error_reply('FORMAT written by another version')
end
if #ARGV == 2 then
  local time = redis.call('TIME')
  redis.call('HSET', KEYS[1], 'touched', time[1] * 1000 + math.floor(time[2] / 1000))
  return ''
end
-- A partition that has papers alone has no buckets yet.
local depth, split = tonumber(state[3]) or 0, tonumber(state[4]) or 0
local flags, buckets = {}, {}
for nth = 3, #ARGV, 3 do
  local bucket = bucket_of(struct.unpack('>I4', ARGV[nth]), depth, split)
  local is_same = string.sub(ARGV[nth + 1], 1, 8) == string.sub(ARGV[nth + 2], 1, 8)
    and redis.call('HGET', bucket, ARGV[nth]) == ARGV[nth + 1]
  flags[#flags + 1] = is_same and '1' or '0'
  buckets[#buckets + 1] = bucket
end
for nth, bucket in ipairs(buckets) do
  if flags[nth] == '1' then
    redis.call('HSET', bucket, ARGV[nth * 3], ARGV[nth * 3 + 2])
  end
end
return table.concat(flags)
