# terraform apply -invoke action.ten_promote.n2
action "ten_promote" "n2" {
  config {
    node = "n2"
  }
}
