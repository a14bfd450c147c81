# By its name, service:id.
terraform import ten_instance.canary notes:canary
