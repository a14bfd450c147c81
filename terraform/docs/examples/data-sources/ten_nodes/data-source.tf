data "ten_nodes" "fast" {
  region = "eu"
  match  = ["label.ssd", "zone != eu-9"]
}

output "fast" {
  value = data.ten_nodes.fast.nodes[*].name
}
