data "ten_instances" "notes" {
  service = "notes"
}

output "urls" {
  value = [for i in data.ten_instances.notes.instances : provider::ten::instance_url(i.ref, "https://example.com")]
}
