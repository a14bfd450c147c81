terraform {
  required_version = ">= 1.11"
}

locals {
  root = abspath(pathexpand(var.data_dir))

  # What node.sh is told of each node, by name.
  nodes = { for n in range(1, var.nodes + 1) : "n${n}" => {
    TEN         = var.binary
    NAME        = "n${n}"
    DIR         = "${local.root}/n${n}"
    ADDRESS     = "${var.network}.${n}"
    DOMAIN      = var.domain
    PORT        = tostring(var.port)
    TLS_PORT    = tostring(var.tls_port)
    PEER_PORT   = tostring(var.peer_port)
    GOSSIP_PORT = tostring(var.gossip_port)
  } }
  others = { for name, n in local.nodes : name => n if name != "n1" }
}

# The node that founds the cluster. What a node was started with is kept in input: its end
# needs it, whatever the variables have become.
resource "terraform_data" "first" {
  input            = local.nodes["n1"]
  triggers_replace = local.nodes["n1"]

  provisioner "local-exec" {
    command     = "exec sh '${path.module}/node.sh' start"
    environment = self.input
  }

  provisioner "local-exec" {
    when        = destroy
    command     = "exec sh '${path.module}/node.sh' stop"
    environment = self.input
  }
}

# Those that join it, each by a token of its own that is good for one server.
resource "terraform_data" "others" {
  for_each         = local.others
  input            = merge(each.value, { FOUNDER = local.nodes["n1"].DIR })
  triggers_replace = [each.value, terraform_data.first.id]

  provisioner "local-exec" {
    command     = "exec sh '${path.module}/node.sh' start"
    environment = self.input
  }

  provisioner "local-exec" {
    when        = destroy
    command     = "exec sh '${path.module}/node.sh' stop"
    environment = self.input
  }
}

# All outputs come through here: nobody hears of a cluster that is not complete.
resource "terraform_data" "cluster" {
  input            = local.nodes
  triggers_replace = [terraform_data.first.id, values(terraform_data.others)[*].id]

  provisioner "local-exec" {
    command     = "exec sh '${path.module}/node.sh' await"
    environment = merge(self.input["n1"], { NODES = length(self.input) })
  }
}
