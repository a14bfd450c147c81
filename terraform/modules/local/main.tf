terraform {
  required_version = ">= 1.11"
}

locals {
  root = abspath(pathexpand(var.data_dir))

  # What node.sh is told of each server, by name.
  nodes = { for n in range(1, var.nodes + 1) : "n${n}" => {
    TEN             = var.binary
    NAME            = "n${n}"
    DIR             = "${local.root}/n${n}"
    FOUNDER         = n == 1 ? "" : "${local.root}/n1"
    FOUNDER_ADDRESS = "${var.network}.1"
    ADDRESS         = "${var.network}.${n}"
    DOMAIN          = var.domain
    PORT            = tostring(var.port)
    TLS_PORT        = tostring(var.tls_port)
    PEER_PORT       = tostring(var.peer_port)
    GOSSIP_PORT     = tostring(var.gossip_port)
  } }
}

# The end of each server. It is a resource of its own since Terraform ends nothing whose
# start has failed, and a start that is cut off leaves a process. What a server was started
# with is kept in input: its end needs that, whatever the variables have become.
resource "terraform_data" "server" {
  for_each         = local.nodes
  input            = each.value
  triggers_replace = each.value

  provisioner "local-exec" {
    when        = destroy
    command     = "exec sh '${path.module}/node.sh' stop"
    environment = self.input
  }
}

# The start of the one that founds the cluster.
resource "terraform_data" "first" {
  triggers_replace = terraform_data.server["n1"].id

  provisioner "local-exec" {
    command     = "exec sh '${path.module}/node.sh' start"
    environment = terraform_data.server["n1"].input
  }
}

# And of those that join it, each by a token of its own that is good for one server.
resource "terraform_data" "others" {
  for_each         = { for name, n in local.nodes : name => n if name != "n1" }
  triggers_replace = [terraform_data.server[each.key].id, terraform_data.first.id]

  provisioner "local-exec" {
    command     = "exec sh '${path.module}/node.sh' start"
    environment = terraform_data.server[each.key].input
  }
}

resource "terraform_data" "complete" {
  triggers_replace = [terraform_data.first.id, values(terraform_data.others)[*].id]

  provisioner "local-exec" {
    command     = "exec sh '${path.module}/node.sh' await"
    environment = merge(local.nodes["n1"], { NODES = var.nodes })
  }
}

# All outputs come through here, so that nobody hears of a cluster that is not complete. It
# is never replaced: when an apply has failed, the provider still knows the cluster.
resource "terraform_data" "cluster" {
  input = { nodes = local.nodes, complete = terraform_data.complete.id }
}
