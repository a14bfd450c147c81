# { service = "web", id = "blue" }
output "ref" {
  value = provider::ten::parse_ref("web:blue")
}
