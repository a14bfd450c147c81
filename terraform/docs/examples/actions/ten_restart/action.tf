# By hand: terraform apply -invoke action.ten_restart.alice
action "ten_restart" "alice" {
  config {
    instance = "notes:alice"
    timeout  = "2m"
  }
}

# Or whenever something has changed.
resource "terraform_data" "theme" {
  input = "dark"

  lifecycle {
    action_trigger {
      events  = [after_update]
      actions = [action.ten_restart.alice]
    }
  }
}
