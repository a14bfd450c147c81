locals {
  file = provider::ten::tenement_toml(file("${path.module}/tenement.toml"), "/srv/blog")
}

resource "ten_service" "file" {
  for_each = local.file.services

  name         = each.key
  command      = each.value.command
  args         = each.value.args
  workdir      = each.value.workdir
  env          = each.value.env
  health       = each.value.health
  idle_timeout = each.value.idle_timeout
}

resource "ten_instance" "file" {
  for_each = local.file.instances

  service = ten_service.file[each.value.service].name
  id      = each.value.id
}
