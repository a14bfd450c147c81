terraform {
  required_version = ">= 1.11"
}

locals {
  config_file = "${var.config_dir}/tenement.toml"
  token_file  = "${var.config_dir}/join-token"

  # A text in JSON is one in TOML too. What is null is left out.
  toml = { for table, keys in {
    settings = {
      data_dir  = var.data_dir
      domain    = var.domain
      port      = var.port
      tls_port  = var.tls_port
      tls_names = var.tls_names
    }
    cluster = {
      token_file  = var.join ? local.token_file : null
      node_name   = var.node_name
      advertise   = var.advertise
      peer_port   = var.peer_port
      gossip_port = var.gossip_port
      region      = var.region
      zone        = var.zone
      provider    = var.operator
    }
    "cluster.labels" = var.labels
    } : table => join("", concat(["[${table}]\n"], [for k, v in keys : "${table == "cluster.labels" ? jsonencode(k) : k} = ${jsonencode(v)}\n" if v != null]))
  }

  files = [
    {
      path        = local.config_file
      permissions = "0644"
      content     = join("\n", concat([local.toml["settings"], local.toml["cluster"], local.toml["cluster.labels"]], compact([var.extra_toml])))
    },
    {
      path        = "${var.config_dir}/install"
      permissions = "0755"
      content = templatefile("${path.module}/install.sh.tftpl", {
        url           = var.ten_url
        sha256        = lower(var.ten_sha256)
        binary        = var.binary
        token_file    = local.token_file
        token_command = var.join_token_command
      })
    },
    {
      path        = "/etc/systemd/system/ten.service"
      permissions = "0644"
      content     = templatefile("${path.module}/ten.service.tftpl", { binary = var.binary, config_file = local.config_file })
    },
  ]
  rest = {
    packages = var.packages
    runcmd   = [["sh", "${var.config_dir}/install"]]
  }

  token = { path = local.token_file, permissions = "0600", owner = "root:root" }

  with_token = concat(local.files, var.join_token == null ? [] : [merge(local.token, { content = "${var.join_token}\n" })])
  # No condition on the token: Terraform would forget that it is ephemeral while it is unknown.
  with_token_wo = concat(local.files, [merge(local.token, { content = format("%s\n", coalesce(var.join_token_wo, "join_token_wo was not given")) })])

  user_data    = "#cloud-config\n${yamlencode(merge(local.rest, { write_files = local.with_token }))}"
  user_data_wo = "#cloud-config\n${yamlencode(merge(local.rest, { write_files = local.with_token_wo }))}"
}
