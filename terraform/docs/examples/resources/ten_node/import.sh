# By its name or its id.
terraform import ten_node.n2 n2
