data "ten_cluster" "this" {}

output "members" {
  value = [for n in data.ten_cluster.this.nodes : n.name]
}

# Tells of a server that is lost with every plan.
check "all_up" {
  assert {
    condition     = alltrue([for n in data.ten_cluster.this.nodes : n.status == "up"])
    error_message = "A server of the cluster does not answer."
  }
}
