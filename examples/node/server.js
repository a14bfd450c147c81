// A Node.js app that listens on the unix socket it is given.
const http = require('node:http');
const fs = require('node:fs');

const socket = process.env.SOCKET_PATH;
fs.rmSync(socket, { force: true });

const server = http.createServer((req, res) => {
  console.log(req.method, req.url);
  if (req.url === '/health') return res.end('ok\n');
  res.end(`hello from node, instance ${process.env.TENEMENT_INSTANCE}\n`);
});
server.listen(socket);
process.on('SIGTERM', () => server.close(() => process.exit(0)));
