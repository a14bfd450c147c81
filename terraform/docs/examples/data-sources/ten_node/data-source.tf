data "ten_node" "n1" {
  node = "n1"
}

output "zone" {
  value = data.ten_node.n1.zone
}
