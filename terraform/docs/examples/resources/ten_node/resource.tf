# Moves what is on n2 to other nodes, waits until it is empty, and keeps it so.
# To destroy this makes the node eligible again.
resource "ten_node" "n2" {
  node        = "n2"
  eligibility = "draining"
}
