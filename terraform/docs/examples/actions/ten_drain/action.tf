# Before a server is worked on: terraform apply -invoke action.ten_drain.n2
# Afterwards: ten node uncordon n2
action "ten_drain" "n2" {
  config {
    node    = "n2"
    wait    = true
    timeout = "15m"
  }
}
