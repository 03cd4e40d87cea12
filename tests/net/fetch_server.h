// A small HTTP server on this machine whose answers a test writes itself, breaks included.
#ifndef SC_TESTS_NET_FETCH_SERVER_H
#define SC_TESTS_NET_FETCH_SERVER_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

struct FetchRequest {
    std::string path;
    std::map<std::string, std::string> headers; // names in lower case
    std::string header(const std::string &name) const
    {
        auto found = headers.find(name);
        return found == headers.end() ? "" : found->second;
    }
};

class FetchServer
{
  public:
    // Gives the whole answer, head and body; what it promises beyond the body is a broken connection.
    using Handler = std::function<std::string(const FetchRequest &)>;

    explicit FetchServer(Handler handler) : handler_(std::move(handler))
    {
        listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in address = {};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t length = sizeof address;
        if (bind(listener_, reinterpret_cast<sockaddr *>(&address), length) != 0 ||
            listen(listener_, 16) != 0 ||
            getsockname(listener_, reinterpret_cast<sockaddr *>(&address), &length) != 0)
            throw std::runtime_error("no local server");
        port_ = ntohs(address.sin_port);
        thread_ = std::thread([this] { serve(); });
    }
    ~FetchServer()
    {
        shutdown(listener_, SHUT_RDWR);
        thread_.join();
        close(listener_);
    }
    std::string url(const std::string &path = "") const
    {
        return "http://127.0.0.1:" + std::to_string(port_) + path;
    }
    std::vector<FetchRequest> requests()
    {
        std::lock_guard<std::mutex> guard(mutex_);
        return requests_;
    }
    size_t count(const std::string &path)
    {
        std::vector<FetchRequest> all = requests();
        return (size_t)std::count_if(all.begin(), all.end(),
                                     [&](const FetchRequest &r) { return r.path == path; });
    }

    static std::string answer(int code, const std::string &body, const std::string &headers = "",
                              size_t promised = SIZE_MAX)
    {
        return "HTTP/1.1 " + std::to_string(code) + " x\r\nConnection: close\r\nContent-Length: " +
               std::to_string(promised == SIZE_MAX ? body.size() : promised) + "\r\n" + headers + "\r\n" +
               body;
    }
    // A file that honours Range and If-Range; at most `most` bytes come before the connection breaks.
    static std::string file(const FetchRequest &r, const std::string &content, const std::string &etag,
                            size_t most = SIZE_MAX)
    {
        std::string head = etag.empty() ? "" : "ETag: " + etag + "\r\n";
        std::string range = r.header("range"), condition = r.header("if-range");
        if (range.rfind("bytes=", 0) == 0 && (condition.empty() || condition == etag)) {
            size_t start = std::stoul(range.substr(6));
            std::string total = std::to_string(content.size());
            if (start >= content.size())
                return answer(416, "", head + "Content-Range: bytes */" + total + "\r\n");
            head += "Content-Range: bytes " + std::to_string(start) + "-" +
                    std::to_string(content.size() - 1) + "/" + total + "\r\n";
            return answer(206, content.substr(start, most), head, content.size() - start);
        }
        return answer(200, content.substr(0, most), head, content.size());
    }

  private:
    void serve()
    {
        for (int fd; (fd = accept(listener_, nullptr, nullptr)) >= 0; close(fd)) {
            std::string head;
            char bytes[4096];
            for (ssize_t n;
                 head.find("\r\n\r\n") == std::string::npos && (n = read(fd, bytes, sizeof bytes)) > 0;)
                head.append(bytes, (size_t)n);
            FetchRequest r;
            r.path = head.substr(4, head.find(' ', 4) - 4);
            for (size_t at = head.find("\r\n") + 2; at < head.size();) {
                size_t end = head.find("\r\n", at), colon = head.find(':', at);
                if (end == at || end == std::string::npos || colon == std::string::npos)
                    break;
                std::string name = head.substr(at, colon - at);
                std::transform(name.begin(), name.end(), name.begin(),
                               [](unsigned char c) { return (char)tolower(c); });
                r.headers[name] = head.substr(colon + 2, end - colon - 2);
                at = end + 2;
            }
            {
                std::lock_guard<std::mutex> guard(mutex_);
                requests_.push_back(r);
            }
            std::string answer = handler_(r);
            for (size_t done = 0; done < answer.size();) {
                ssize_t n = send(fd, answer.data() + done, answer.size() - done, MSG_NOSIGNAL);
                if (n <= 0)
                    break;
                done += (size_t)n;
            }
            shutdown(fd, SHUT_WR);
        }
    }

    Handler handler_;
    int listener_ = -1, port_ = 0;
    std::thread thread_;
    std::mutex mutex_;
    std::vector<FetchRequest> requests_;
};

#endif
