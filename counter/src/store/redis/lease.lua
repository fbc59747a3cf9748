-- Shares the shards of an outbox among relays: each takes part while it shows itself, and holds no more than its share.
--
-- KEYS: the leases (a hash). Fields: r:RELAY, until when it takes part; l:SHARD, who has it.
-- ARGV: the relay, for how many milliseconds it is to count from now on (0: it leaves), how many shards there are.
-- Answer: the shards that the relay has.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local relay, length, shards = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

local stored = redis.call('HGETALL', KEYS[1])
local alive, relays, holders = {}, 0, {}
for i = 1, #stored, 2 do
  local kind, name = string.sub(stored[i], 1, 2), string.sub(stored[i], 3)
  if kind == 'l:' then
    holders[name] = stored[i + 1]
  elseif name ~= relay then
    if tonumber(stored[i + 1]) > now then
      alive[name], relays = true, relays + 1
    else
      redis.call('HDEL', KEYS[1], stored[i])
    end
  end
end
if length > 0 then
  alive[relay], relays = true, relays + 1
  redis.call('HSET', KEYS[1], 'r:' .. relay, string.format('%.0f', now + length))
else
  redis.call('HDEL', KEYS[1], 'r:' .. relay)
end

local share = length > 0 and math.ceil(shards / relays) or 0
local mine = {}
-- What it has first: a shard that changes hands is read again from its first entry.
for pass = 1, 2 do
  for shard = 0, shards - 1 do
    local name = tostring(shard)
    local holder = holders[name]
    if pass == 1 and holder == relay then
      if #mine < share then
        mine[#mine + 1] = shard
      else
        redis.call('HDEL', KEYS[1], 'l:' .. name)
      end
    elseif pass == 2 and holder ~= relay and not alive[holder or ''] and #mine < share then
      redis.call('HSET', KEYS[1], 'l:' .. name, relay)
      mine[#mine + 1] = shard
    end
  end
end
return mine
