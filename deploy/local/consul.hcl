# One server on the loopback, with its page, for a mesh on one's own machine. Ports and data directory: mesh.sh.
node_name            = "local"
server               = true
bootstrap_expect     = 1
bind_addr            = "127.0.0.1"
client_addr          = "127.0.0.1"
log_level            = "warn"
disable_update_check = true
leave_on_terminate   = false
ui_config { enabled = true }
performance { raft_multiplier = 1 }
ports {
  grpc     = -1
  grpc_tls = -1
  serf_wan = -1
}
