# Where would three more go?
data "ten_placement" "more" {
  service  = "web"
  fleet    = "more"
  replicas = 3
}

output "possible" {
  value = data.ten_placement.more.possible
}

output "where" {
  value = { for d in data.ten_placement.more.decisions : d.ref => d.node }
}
