import {
  to = ten_node.n2
  identity = {
    node = "n2"
  }
}
