// A certified OpenID provider on a free port of 127.0.0.1. Each line of its input is a JSON object with `keys`, the
// private keys of its JWK set (the first signs), and `alg`, the algorithm of access tokens: from then on it is so.

import http from 'node:http';
import readline from 'node:readline';

import Provider from 'oidc-provider';

const client = { grant_types: ['client_credentials'], redirect_uris: [], response_types: [] };
const counts = {};
let handle;

const server = http.createServer((request, response) => {
  counts[request.url] = (counts[request.url] ?? 0) + 1;
  handle(request, response);
});
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  readline.createInterface({ input: process.stdin }).on('line', (line) => {
    const { keys, alg, count } = JSON.parse(line);
    if (count === undefined) {
      const resource = (audience, accessTokenFormat) => ({
        audience, accessTokenFormat, scope: 'chat admin', accessTokenTTL: 600, jwt: { sign: { alg } },
      });
      const provider = new Provider(issuer, {
        clients: [
          { ...client, client_id: 'app', client_secret: 'app-secret' },
          { ...client, client_id: 'mesh', client_secret: 'mesh-secret' },
        ],
        cookies: { keys: ['of-this-test-alone'] },
        enabledJWA: { userinfoSigningAlgValues: [] },
        features: {
          clientCredentials: { enabled: true },
          devInteractions: { enabled: false },
          introspection: { enabled: true, allowedPolicy: () => true },
          resourceIndicators: {
            enabled: true,
            defaultResource: () => 'urn:mesh',
            getResourceServerInfo: (_, asked) =>
              asked === 'urn:opaque' ? resource('opaque-mesh', 'opaque') : resource('mesh', 'jwt'),
            useGrantedResource: () => true,
          },
        },
        extraTokenClaims: () => ({ tenant: 'acme', realm_access: { roles: ['reader'] } }),
        jwks: { keys },
        scopes: ['chat', 'admin'],
      });
      handle = provider.callback();
    }
    console.log(JSON.stringify({ issuer, counts }));
  });
});
