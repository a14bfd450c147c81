# Good for two servers that join within half an hour, after the run too.
ephemeral "ten_join_token" "servers" {
  description = "two new servers"
  expires_in  = "30m"
  max_uses    = 2
  keep        = true
}

# What makes the servers gets it: the write-only user data of a cloud's instance or, as here,
# a file for `ten serve --token-file`.
resource "terraform_data" "token_file" {
  provisioner "local-exec" {
    command     = "umask 077 && printenv JOIN_TOKEN > join-token"
    environment = { JOIN_TOKEN = ephemeral.ten_join_token.servers.text }
  }
}
