-- Removes from a shard what Kafka has.
--
-- KEYS: where the outbox stands (a hash), the shard's stream. ARGV: the shard, the first id that stays, the number of the last event
-- that goes. Whoever asks is right, and what was removed is never back, so a late or repeated call does no harm.

local sequence = tonumber(redis.call('HGET', KEYS[1], 'seq:' .. ARGV[1]) or 0)
local sent = tonumber(redis.call('HGET', KEYS[1], 'sent:' .. ARGV[1]) or 0)
local last = tonumber(ARGV[3])
redis.call('XTRIM', KEYS[2], 'MINID', ARGV[2])
-- A number beyond the latest is of an outbox that was here before this one.
if last > sent and last <= sequence then
  redis.call('HSET', KEYS[1], 'sent:' .. ARGV[1], ARGV[3])
end
return redis.call('XLEN', KEYS[2])
