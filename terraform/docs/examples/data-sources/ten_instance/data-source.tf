data "ten_instance" "canary" {
  service = "notes"
  id      = "canary"
}

output "node" {
  value = data.ten_instance.canary.node
}
